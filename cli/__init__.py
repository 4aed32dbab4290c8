"""The command line: parse what a person types, call the pipeline, print the result, and exit."""
