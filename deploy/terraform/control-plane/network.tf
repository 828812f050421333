locals {
  makes_network = var.network.subnet_ids == null
  prefix        = tonumber(split("/", var.network.address_space)[1])
  ranges        = zipmap(["apps", "database", "endpoints"], cidrsubnets(var.network.address_space, 27 - local.prefix, 28 - local.prefix, 28 - local.prefix))
  subnet_ids    = local.makes_network ? { for name, subnet in azurerm_subnet.this : name => subnet.id } : var.network.subnet_ids
  delegations = {
    apps     = "Microsoft.App/environments"
    database = "Microsoft.DBforPostgreSQL/flexibleServers"
  }
  # Who gets into a subnet, from where and to which ports; everybody else does not.
  # apps: learn.microsoft.com/azure/container-apps/firewall-integration
  doors = {
    apps      = merge({ own = [local.ranges.apps, ["*"]] }, var.public ? { internet = ["Internet", ["443", "31443"]] } : { network = ["VirtualNetwork", ["443", "31443"]] })
    database  = { own = [local.ranges.database, ["*"]], apps = [local.ranges.apps, ["5432"]] }
    endpoints = { apps = [local.ranges.apps, ["443"]] }
  }
  zones = {
    vault    = "privatelink.vaultcore.azure.net"
    postgres = "privatelink.postgres.database.azure.com"
  }
  makes_zones = var.private_dns_zone_ids == null
  zone_ids    = local.makes_zones ? { for name, zone in azurerm_private_dns_zone.this : name => zone.id } : var.private_dns_zone_ids
}

resource "azurerm_virtual_network" "this" {
  count               = local.makes_network ? 1 : 0
  name                = var.name
  location            = var.location
  resource_group_name = var.resource_group_name
  address_space       = [var.network.address_space]
  tags                = var.tags
}

resource "azurerm_subnet" "this" {
  for_each             = local.makes_network ? local.ranges : {}
  name                 = each.key
  resource_group_name  = var.resource_group_name
  virtual_network_name = azurerm_virtual_network.this[0].name
  address_prefixes     = [each.value]

  dynamic "delegation" {
    for_each = contains(keys(local.delegations), each.key) ? [local.delegations[each.key]] : []
    content {
      name = "delegation"
      service_delegation {
        name    = delegation.value
        actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
      }
    }
  }
}

resource "azurerm_network_security_group" "this" {
  for_each            = local.makes_network ? local.doors : {}
  name                = "${var.name}-${each.key}"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  dynamic "security_rule" {
    for_each = each.value
    content {
      name                       = security_rule.key
      priority                   = 100 + index(keys(each.value), security_rule.key) * 10
      direction                  = "Inbound"
      access                     = "Allow"
      protocol                   = "Tcp"
      source_address_prefix      = security_rule.value[0]
      source_port_range          = "*"
      destination_address_prefix = local.ranges[each.key]
      destination_port_ranges    = security_rule.value[1]
    }
  }
  security_rule {
    name                       = "load-balancer"
    priority                   = 200
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "*"
    source_address_prefix      = "AzureLoadBalancer"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "*"
  }
  security_rule {
    name                       = "nobody-else"
    priority                   = 4096
    direction                  = "Inbound"
    access                     = "Deny"
    protocol                   = "*"
    source_address_prefix      = "*"
    source_port_range          = "*"
    destination_address_prefix = "*"
    destination_port_range     = "*"
  }
}

resource "azurerm_subnet_network_security_group_association" "this" {
  for_each                  = local.makes_network ? local.doors : {}
  subnet_id                 = azurerm_subnet.this[each.key].id
  network_security_group_id = azurerm_network_security_group.this[each.key].id
}

resource "azurerm_private_dns_zone" "this" {
  for_each            = local.makes_zones ? local.zones : {}
  name                = each.value
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  for_each              = local.makes_zones ? local.zones : {}
  name                  = var.name
  resource_group_name   = var.resource_group_name
  private_dns_zone_name = azurerm_private_dns_zone.this[each.key].name
  virtual_network_id    = local.makes_network ? azurerm_virtual_network.this[0].id : regex("(?i)^(.*)/subnets/[^/]+$", var.network.subnet_ids.endpoints)[0]
  registration_enabled  = false
  tags                  = var.tags
}
