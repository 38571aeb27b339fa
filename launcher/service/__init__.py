"""The launch service: the page, the API and BinderHub's endpoints, as one stateless web process behind the hub's proxy."""
