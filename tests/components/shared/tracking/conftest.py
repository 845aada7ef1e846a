from tests.registry import database_with_experiment, empty_database, tracking_uri

__all__ = ["database_with_experiment", "empty_database", "tracking_uri"]
