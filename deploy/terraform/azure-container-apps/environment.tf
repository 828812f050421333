resource "azurerm_log_analytics_workspace" "executors" {
  count               = var.log_analytics.workspace == null ? 1 : 0
  name                = "${var.name}-executors"
  location            = var.location
  resource_group_name = var.resource_group_name
  sku                 = "PerGB2018"
  retention_in_days   = var.log_analytics.retention_days
  tags                = var.tags
}

resource "azurerm_container_app_environment" "executors" {
  name                           = "${var.name}-executors"
  location                       = var.location
  resource_group_name            = var.resource_group_name
  infrastructure_subnet_id       = local.subnet_id
  internal_load_balancer_enabled = true # nobody calls an executor
  logs_destination               = "log-analytics"
  log_analytics_workspace_id     = var.log_analytics.workspace != null ? var.log_analytics.workspace.id : azurerm_log_analytics_workspace.executors[0].id
  tags                           = var.tags

  # Without this block Azure makes an environment of the old kind, without NAT gateway and identity lifecycle.
  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }

  dynamic "workload_profile" {
    for_each = var.workload_profiles
    content {
      name                  = workload_profile.key
      workload_profile_type = workload_profile.value.type
      minimum_count         = workload_profile.value.minimum
      maximum_count         = workload_profile.value.maximum
    }
  }

  # The way out and the door are there before anything runs.
  depends_on = [
    azurerm_subnet_nat_gateway_association.out,
    azurerm_nat_gateway_public_ip_association.out,
    azurerm_subnet_network_security_group_association.executors,
  ]

  lifecycle {
    precondition {
      condition     = !contains(local.in_reserved, true)
      error_message = "The executors' subnet ${local.subnet_prefix} lies in a range that Container Apps keeps for itself: ${join(", ", local.reserved)}. Choose another network.address_space, or network.subnet_prefix."
    }
    # Azure fills it in; without this each plan would make the environment, and every job, anew.
    ignore_changes = [infrastructure_resource_group_name]
  }
}
