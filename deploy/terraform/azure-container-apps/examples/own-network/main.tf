# In a subnet that is there: delegated to Microsoft.App/environments, with the rules, the routes and
# the firewall of its owners. Nothing is made in the network.

terraform {
  required_providers {
    azurerm = { source = "hashicorp/azurerm" }
    azapi   = { source = "azure/azapi" }
  }
}

provider "azurerm" {
  features {}
}

variable "subnet_id" {
  description = "The resource id of the subnet."
  type        = string
}

variable "workspace_id" {
  description = "The resource id of the Log Analytics workspace of the platform."
  type        = string
}

resource "azurerm_resource_group" "runners" {
  name     = "mayfly-runners"
  location = "norwayeast"
}

module "runners" {
  source = "../.."

  location            = azurerm_resource_group.runners.location
  resource_group_name = azurerm_resource_group.runners.name
  control_plane       = { url = "https://mayfly.internal.example.com" }
  network             = { subnet = { id = var.subnet_id } }
  log_analytics       = { workspace = { id = var.workspace_id } }
  pools               = { linux = { image = "ghcr.io/example/mayfly-executor:0.1.0" } }
}
