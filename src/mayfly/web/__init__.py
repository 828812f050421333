"""The control plane's HTTP side: the webhook endpoint, the executor API and the operator API."""
