"""What ``casabinder ci`` consists of: the CI it runs in, who may push, the smoke test, what changed, what is told."""
