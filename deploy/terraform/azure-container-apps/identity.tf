# Pulls the image, and has no other use: jobs cannot take its token, see identitySettings in jobs.tf.
resource "azurerm_user_assigned_identity" "pull" {
  name                = "${var.name}-pull"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_role_assignment" "pull" {
  # Not by try(), which knows nothing of an object with an unknown id.
  count                = (var.registry == null ? false : var.registry.acr != null) ? 1 : 0
  scope                = var.registry.acr.id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_user_assigned_identity.pull.principal_id
  principal_type       = "ServicePrincipal"
}

# "Read, start, and stop Container Apps jobs", on each job by itself. Whoever may start a job may also
# start another image in it, with the identities of the job: so the job has as few as it can.
resource "azurerm_role_assignment" "control_plane" {
  for_each             = { for pair in setproduct(keys(var.pools), keys(var.control_plane.principals)) : join("/", pair) => pair }
  scope                = azapi_resource.job[each.value[0]].id
  role_definition_name = "Container Apps Jobs Operator"
  principal_id         = var.control_plane.principals[each.value[1]]
  principal_type       = "ServicePrincipal"
}
