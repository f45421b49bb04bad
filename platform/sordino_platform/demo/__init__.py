"""A whole federation on one machine: real processes, real TLS, real repositories; one member is killed during the
run."""
