"""The command line: `main` finds the command and turns errors into exit codes; one module per command."""
