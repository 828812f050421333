"""GitHub's side of the world: webhooks decoded at the edge, and the App that holds the key."""
