"""The checks of an audit: functions from facts to findings. They read nothing."""
