# What the module is given here is made in the same apply, so no id is known when it is planned.

terraform {
  required_providers {
    azurerm = { source = "hashicorp/azurerm" }
    azapi   = { source = "azure/azapi" }
  }
}

resource "azurerm_virtual_network" "hub" {
  name                = "hub"
  location            = "norwayeast"
  resource_group_name = "runners"
  address_space       = ["10.1.0.0/16"]
}

resource "azurerm_virtual_network" "team" {
  name                = "team"
  location            = "norwayeast"
  resource_group_name = "runners"
  address_space       = ["10.2.0.0/16"]
}

resource "azurerm_private_dns_zone" "internal" {
  name                = "internal.example.com"
  resource_group_name = "runners"
}

resource "azurerm_container_registry" "images" {
  name                = "images"
  location            = "norwayeast"
  resource_group_name = "runners"
  sku                 = "Standard"
}

resource "azurerm_log_analytics_workspace" "logs" {
  name                = "logs"
  location            = "norwayeast"
  resource_group_name = "runners"
}

resource "azurerm_servicebus_namespace" "bus" {
  name                = "bus"
  location            = "norwayeast"
  resource_group_name = "runners"
  sku                 = "Standard"
}

resource "azurerm_user_assigned_identity" "mayfly" {
  name                = "mayfly"
  location            = "norwayeast"
  resource_group_name = "runners"
}

module "runners" {
  source = "../.."

  location            = "norwayeast"
  resource_group_name = "runners"
  control_plane = {
    url        = "https://mayfly.example.com"
    principals = { mayfly = azurerm_user_assigned_identity.mayfly.principal_id }
  }
  registry = {
    server = "images.azurecr.io"
    acr    = { id = azurerm_container_registry.images.id }
  }
  pools          = { linux = { image = "images.azurecr.io/mayfly-executor:0.1.0" } }
  network        = { vnet = { id = azurerm_virtual_network.hub.id }, subnet_prefix = "10.1.2.0/27" }
  peerings       = { team = { vnet_id = azurerm_virtual_network.team.id, address_space = ["10.2.0.0/16"] } }
  dns_zone_links = { internal = azurerm_private_dns_zone.internal.id }
  log_analytics  = { workspace = { id = azurerm_log_analytics_workspace.logs.id } }
  service_bus    = { namespace_id = azurerm_servicebus_namespace.bus.id }
}
