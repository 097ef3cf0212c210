"""The page for uploads: a small server on this machine, a process that judges, and the page itself."""
