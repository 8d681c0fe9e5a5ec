"""How many files one request may be about. Of no other module's making: the command, which must not read files itself, asks for it too."""

MAX_FILES = 64
