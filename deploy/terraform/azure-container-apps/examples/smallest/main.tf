# One pool, a network of its own, public images.

terraform {
  required_providers {
    azurerm = { source = "hashicorp/azurerm" }
    azapi   = { source = "azure/azapi" }
  }
}

provider "azurerm" {
  features {}
}

resource "azurerm_resource_group" "runners" {
  name     = "mayfly-runners"
  location = "norwayeast"
}

module "runners" {
  source = "../.."

  location            = azurerm_resource_group.runners.location
  resource_group_name = azurerm_resource_group.runners.name
  control_plane       = { url = "https://mayfly.example.com" }
  pools               = { linux = { image = "ghcr.io/example/mayfly-executor:0.1.0" } }
}

output "jobs" {
  value = module.runners.jobs
}
