module "service_bus" {
  source = "../service-bus"
  count  = var.service_bus == null ? 0 : 1

  namespace_id = var.service_bus.namespace_id
  topic        = var.service_bus.topic
  pools        = toset(keys(var.pools))
  # Named apart from the number of it: an id that is not known yet may not decide how many there are.
  principals = var.control_plane.principal_id == null ? {} : { control-plane = var.control_plane.principal_id }
}
