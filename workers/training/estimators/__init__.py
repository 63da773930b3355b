"""What `Model(fit=...)` declares, realised: functions of authors, and classifiers of libraries."""
