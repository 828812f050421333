output "jobs" {
  description = "Pool to the resource id of its job, which the control plane starts."
  value       = { for pool, job in azapi_resource.job : pool => job.id }
}

output "environment_id" {
  description = "The resource id of the Container Apps environment."
  value       = azurerm_container_app_environment.executors.id
}

output "vnet_id" {
  description = "The resource id of the executors' virtual network, for a peering that its other side makes."
  value       = local.vnet_id
}

output "subnet_id" {
  description = "The resource id of the executors' subnet, for firewall rules of what they reach."
  value       = local.subnet_id
}

output "outbound_address" {
  description = "The one public address of all that leaves, with `fixed_address`; else null."
  value       = one(azurerm_public_ip.out[*].ip_address)
}

output "pull_identity" {
  description = "The identity that pulls the images, for a registry that is not named by `registry.acr`."
  value = {
    id           = azurerm_user_assigned_identity.pull.id
    principal_id = azurerm_user_assigned_identity.pull.principal_id
  }
}

output "log_analytics_workspace_id" {
  description = "Where the executors' output goes."
  value       = azurerm_container_app_environment.executors.log_analytics_workspace_id
}
