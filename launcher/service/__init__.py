"""The launch service: the page, the API and BinderHub's endpoints, in a web process without state of its own."""
