output "url" {
  description = "The address of the control plane, for executors and for the App's webhook (`…/webhooks/github`); null before `start`."
  value       = one([for app in azurerm_container_app.this : "https://${app.ingress[0].fqdn}"])
}

output "principal_id" {
  description = "The object id of the control plane's identity: `control_plane.principals` of the module azure-container-apps."
  value       = azurerm_user_assigned_identity.this.principal_id
}

output "client_id" {
  description = "The client id of the same identity."
  value       = azurerm_user_assigned_identity.this.client_id
}

output "vault_name" {
  description = "Where the operator puts the App's key, `webhook-secret` and `store-url`."
  value       = azurerm_key_vault.this.name
}

output "vault_uri" {
  description = "The same vault's address."
  value       = azurerm_key_vault.this.vault_uri
}

output "database_host" {
  description = "The host in the secret `store-url`: postgresql://mayfly:PASSWORD@HOST:5432/mayfly."
  value       = azurerm_postgresql_flexible_server.this.fqdn
}

output "bus_url" {
  description = "`[bus] url` of mayfly.toml; null without Service Bus."
  value       = one([for namespace in azurerm_servicebus_namespace.this : "sb://${namespace.name}.servicebus.windows.net/${var.service_bus.topic}"])
}

output "vnet_id" {
  description = "The resource id of the control plane's network; null when it was given."
  value       = one(azurerm_virtual_network.this[*].id)
}
