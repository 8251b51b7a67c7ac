"""From a request to a reply: the Nuclio adapter, the kinds of functions, their options, states and caches."""
