"""What a member and a coordinator must agree on: charter, link, messages, model, releases, commands."""
