import signal

from hypothesis import HealthCheck, settings

# A busy machine makes an example slow. That says nothing about the code.
settings.register_profile("pgstow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pgstow")

pytest_plugins = ["support.store_fixtures", "support.postgres_fixtures", "support.stored_sample"]

# A shell's background jobs ignore SIGINT, and nohup's SIGHUP. So would each pgstow that the tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
