# Two pools that reach a private cluster and an internal zone of the team payments, leave by one
# fixed address, and are started by a control plane with its own identity.

terraform {
  required_providers {
    azurerm = { source = "hashicorp/azurerm" }
    azapi   = { source = "azure/azapi" }
  }
}

provider "azurerm" {
  features {}
}

variable "control_plane_principal_id" {
  description = "The output `principal_id` of the module control-plane."
  type        = string
}

variable "registry" {
  description = "The Azure Container Registry with the images: its server, and in acr its resource id."
  type        = object({ server = string, acr = object({ id = string }) })
}

resource "azurerm_resource_group" "runners" {
  name     = "payments-runners"
  location = "norwayeast"
}

module "runners" {
  source = "../.."

  name                = "payments"
  location            = azurerm_resource_group.runners.location
  resource_group_name = azurerm_resource_group.runners.name

  control_plane = {
    url        = "https://mayfly.example.com"
    principals = { mayfly = var.control_plane_principal_id }
  }
  registry = var.registry
  pools = {
    linux = { image = "${var.registry.server}/mayfly-executor:0.1.0" }
    deploy = {
      image           = "${var.registry.server}/mayfly-executor-deploy:0.1.0"
      cpu             = 1
      longest_seconds = 3600
    }
  }

  network = {
    address_space = "10.62.0.0/24"
    fixed_address = true
  }
  peerings = {
    cluster = {
      vnet_id       = "/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/payments/providers/Microsoft.Network/virtualNetworks/payments"
      address_space = ["10.80.0.0/16"]
    }
  }
  dns_zone_links = {
    cluster  = "/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/payments/providers/Microsoft.Network/privateDnsZones/privatelink.norwayeast.azmk8s.io"
    internal = "/subscriptions/00000000-0000-0000-0000-000000000003/resourceGroups/dns/providers/Microsoft.Network/privateDnsZones/internal.example.com"
  }
}

output "outbound_address" {
  value = module.runners.outbound_address
}
