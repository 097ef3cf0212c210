"""Raw files -> who is who and who may stand where."""
