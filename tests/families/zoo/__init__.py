"""Networks of all sorts by the names, shapes and dtypes of their files, each with what it may honestly be called."""
