module "service_bus" {
  source = "../service-bus"
  count  = var.service_bus == null ? 0 : 1

  namespace_id = var.service_bus.namespace_id
  topic        = var.service_bus.topic
  pools        = toset(keys(var.pools))
  principals   = var.control_plane.principals
}
