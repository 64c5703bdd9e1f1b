"""Running the system: the command line, the embedded stack, the scripted model, migrations."""
