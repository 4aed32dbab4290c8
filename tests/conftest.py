import signal

pytest_plugins = ["support.store_fixtures", "support.postgres_fixtures", "support.stored_sample"]

# A shell's background jobs ignore SIGINT, and nohup's SIGHUP. So would each pgstow that the tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
