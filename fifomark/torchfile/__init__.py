"""Reading and writing .pt files without torch. The modules that read hostile bytes import the standard library only."""
