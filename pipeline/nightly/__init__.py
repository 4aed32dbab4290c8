"""What happens every night: the databases, destinations and hooks that a file names, run as one."""
