pytest_plugins = ["support.store_fixtures", "support.postgres_fixtures", "support.stored_sample"]
