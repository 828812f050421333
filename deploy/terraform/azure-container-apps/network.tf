locals {
  # Whether something is made is decided by objects, which are there or not; an id within one may be
  # known only once it is applied.
  subnet_id = local.makes_subnet ? azurerm_subnet.executors[0].id : var.network.subnet.id
  vnet_id = (
    var.network.subnet != null ? regex("(?i)^(.*)/subnets/[^/]+$", var.network.subnet.id)[0] :
    var.network.vnet != null ? var.network.vnet.id : azurerm_virtual_network.executors[0].id
  )
  makes_vnet   = var.network.vnet == null && var.network.subnet == null
  makes_subnet = var.network.subnet == null
  # A resource id is /subscriptions/S/resourceGroups/G/providers/Microsoft.Network/virtualNetworks/N.
  given_vnet    = split("/", var.network.vnet == null ? "" : var.network.vnet.id)
  subnet_prefix = var.network.subnet_prefix != null ? var.network.subnet_prefix : try(cidrsubnet(var.network.address_space, 26 - tonumber(split("/", var.network.address_space)[1]), 0), "")
}

locals {
  # learn.microsoft.com/azure/container-apps/custom-virtual-networks
  reserved = ["169.254.0.0/16", "172.30.0.0/16", "172.31.0.0/16", "192.0.2.0/24", "100.100.0.0/17", "100.100.128.0/19", "100.100.160.0/19", "100.100.192.0/19"]
  # Two ranges overlap where the shorter of their two prefixes makes them one. What is no range overlaps
  # nothing here; other sentences refuse it.
  in_reserved = [for pair in setproduct(local.reserved, local.makes_subnet ? [local.subnet_prefix] : []) : try(
    cidrhost(join("/", [split("/", pair[0])[0], min(split("/", pair[0])[1], split("/", pair[1])[1])]), 0) ==
    cidrhost(join("/", [split("/", pair[1])[0], min(split("/", pair[0])[1], split("/", pair[1])[1])]), 0),
  false)]
  in_peered = [for pair in setproduct(flatten(values(var.peerings)[*].address_space), local.makes_subnet ? [local.makes_vnet ? var.network.address_space : local.subnet_prefix] : []) : try(
    cidrhost(join("/", [split("/", pair[0])[0], min(split("/", pair[0])[1], split("/", pair[1])[1])]), 0) ==
    cidrhost(join("/", [split("/", pair[1])[0], min(split("/", pair[0])[1], split("/", pair[1])[1])]), 0),
  false)]
}

resource "azurerm_virtual_network" "executors" {
  count               = local.makes_vnet ? 1 : 0
  name                = "${var.name}-executors"
  location            = var.location
  resource_group_name = var.resource_group_name
  address_space       = [var.network.address_space]
  tags                = var.tags
}

resource "azurerm_subnet" "executors" {
  count                = local.makes_subnet ? 1 : 0
  name                 = "${var.name}-executors"
  resource_group_name  = local.makes_vnet ? var.resource_group_name : local.given_vnet[4]
  virtual_network_name = local.makes_vnet ? azurerm_virtual_network.executors[0].name : local.given_vnet[8]
  address_prefixes     = [local.subnet_prefix]

  # An environment with workload profiles must have it; the subnet is then the environment's alone.
  delegation {
    name = "container-apps"
    service_delegation {
      name    = "Microsoft.App/environments"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

# An executor is never called: nobody but its own subnet and Azure's load balancer gets in, so a
# network it is peered with is reached from here and does not reach the jobs.
resource "azurerm_network_security_group" "executors" {
  count               = local.makes_subnet ? 1 : 0
  name                = "${var.name}-executors"
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags

  security_rule {
    name                       = "own-subnet"
    priority                   = 100
    direction                  = "Inbound"
    access                     = "Allow"
    protocol                   = "*"
    source_address_prefix      = local.subnet_prefix
    source_port_range          = "*"
    destination_address_prefix = local.subnet_prefix
    destination_port_range     = "*"
  }
  security_rule {
    name                       = "load-balancer"
    priority                   = 110
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

resource "azurerm_subnet_network_security_group_association" "executors" {
  count                     = local.makes_subnet ? 1 : 0
  subnet_id                 = azurerm_subnet.executors[0].id
  network_security_group_id = azurerm_network_security_group.executors[0].id
}

resource "azurerm_public_ip" "out" {
  count               = var.network.fixed_address ? 1 : 0
  name                = "${var.name}-out"
  location            = var.location
  resource_group_name = var.resource_group_name
  allocation_method   = "Static"
  sku                 = "Standard"
  tags                = var.tags
}

resource "azurerm_nat_gateway" "out" {
  count               = var.network.fixed_address ? 1 : 0
  name                = "${var.name}-out"
  location            = var.location
  resource_group_name = var.resource_group_name
  sku_name            = "Standard"
  tags                = var.tags
}

resource "azurerm_nat_gateway_public_ip_association" "out" {
  count                = var.network.fixed_address ? 1 : 0
  nat_gateway_id       = azurerm_nat_gateway.out[0].id
  public_ip_address_id = azurerm_public_ip.out[0].id
}

resource "azurerm_subnet_nat_gateway_association" "out" {
  count          = var.network.fixed_address ? 1 : 0
  subnet_id      = azurerm_subnet.executors[0].id
  nat_gateway_id = azurerm_nat_gateway.out[0].id
}
