# Pulls the image, and has no other use: jobs cannot take its token, see identitySettings in jobs.tf.
resource "azurerm_user_assigned_identity" "pull" {
  name                = "${var.name}-pull"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_role_assignment" "pull" {
  count                = try(var.registry.id, null) == null ? 0 : 1
  scope                = var.registry.id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_user_assigned_identity.pull.principal_id
  principal_type       = "ServicePrincipal"
}

# "Read, start, and stop Container Apps jobs", on each job by itself. Whoever may start a job may also
# start another image in it, with the identities of the job: so the job has as few as it can.
resource "azurerm_role_assignment" "control_plane" {
  for_each             = var.control_plane.principal_id == null ? {} : var.pools
  scope                = azapi_resource.job[each.key].id
  role_definition_name = "Container Apps Jobs Operator"
  principal_id         = var.control_plane.principal_id
  principal_type       = "ServicePrincipal"
}
