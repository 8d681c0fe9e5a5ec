"""FILES: the folders of a spool, every path name in them, moves, intake and watching. The only rename and fsync on the spool."""
