"""How tables lie on disk: csv or Parquet."""
