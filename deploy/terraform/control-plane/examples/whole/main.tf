# A control plane with PostgreSQL and Service Bus, and one pool that it starts.

terraform {
  required_providers {
    azurerm = { source = "hashicorp/azurerm" }
    azapi   = { source = "azure/azapi" }
  }
}

provider "azurerm" {
  features {}
}

variable "start" {
  description = "False at first; true once the key and the secrets are in the vault."
  type        = bool
  default     = false
}

variable "database_password" {
  description = "Given by TF_VAR_database_password, and kept nowhere."
  type        = string
  ephemeral   = true
  sensitive   = true
}

variable "operator_addresses" {
  description = "From where the key and the secrets are put into the vault."
  type        = list(string)
  default     = []
}

resource "azurerm_resource_group" "mayfly" {
  name     = "mayfly"
  location = "norwayeast"
}

module "control_plane" {
  source = "../.."

  name                    = "mayfly-example"
  location                = azurerm_resource_group.mayfly.location
  resource_group_name     = azurerm_resource_group.mayfly.name
  start                   = var.start
  image                   = "ghcr.io/example/mayfly:0.1.0"
  mayfly_toml             = file("${path.module}/mayfly.toml")
  service_bus             = { pools = ["linux"] }
  database_password       = var.database_password
  vault_allowed_addresses = var.operator_addresses
}

module "runners" {
  source = "../../../azure-container-apps"
  count  = var.start ? 1 : 0

  location            = azurerm_resource_group.mayfly.location
  resource_group_name = azurerm_resource_group.mayfly.name
  control_plane = {
    url        = module.control_plane.url
    principals = { mayfly = module.control_plane.principal_id }
  }
  pools = { linux = { image = "ghcr.io/example/mayfly-executor:0.1.0" } }
}

output "url" {
  value = module.control_plane.url
}

output "database_host" {
  value = module.control_plane.database_host
}

output "vault_name" {
  value = module.control_plane.vault_name
}
