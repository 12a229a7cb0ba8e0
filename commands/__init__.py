"""hw1's commands, a module for each: they parse, call once, print, and exit."""
