"""How many files one request may be about. Of no other module's making: the command, which must not read files itself, asks for it too."""

MAX_FILES = 120  # a message over a socket carries 253 descriptors, and a file may take two
