"""The federation's server: the rounds, their durable state, the transcript and the operator's views."""
