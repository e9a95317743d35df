"""One file, one actor, one closed union of messages. No SDK is imported here, and no actor imports another."""
