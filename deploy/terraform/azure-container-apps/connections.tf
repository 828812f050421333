# Both ends of a peering and the links of DNS zones are made through azapi, whose `parent_id` may lie
# in another subscription; azurerm looks for both in the provider's own. Their bodies are after
# learn.microsoft.com/azure/templates/microsoft.network: virtualnetworks/virtualnetworkpeerings and
# privatednszones/virtualnetworklinks.

resource "azapi_resource" "peering" {
  for_each  = var.peerings
  type      = "Microsoft.Network/virtualNetworks/virtualNetworkPeerings@2024-05-01"
  name      = "${var.name}-${each.key}"
  parent_id = local.vnet_id
  # Two changes of one network at a time are refused.
  locks = [local.vnet_id]
  body = {
    properties = {
      remoteVirtualNetwork      = { id = each.value.vnet_id }
      allowVirtualNetworkAccess = true
      allowForwardedTraffic     = each.value.allow_forwarded_traffic
      allowGatewayTransit       = false
      useRemoteGateways         = each.value.use_remote_gateway
    }
  }

  # The other end allows the use of its gateway before this end may use it.
  depends_on = [azapi_resource.return_peering]

  lifecycle {
    precondition {
      condition     = !contains(local.in_peered, true)
      error_message = "The address_space of a peering overlaps the executors' network, and Azure peers no networks that overlap; choose another network.address_space, or network.subnet_prefix."
    }
  }
}

resource "azapi_resource" "return_peering" {
  for_each  = { for name, peering in var.peerings : name => peering if peering.return_peering }
  type      = "Microsoft.Network/virtualNetworks/virtualNetworkPeerings@2024-05-01"
  name      = "${var.name}-executors"
  parent_id = each.value.vnet_id
  locks     = [each.value.vnet_id]
  body = {
    properties = {
      remoteVirtualNetwork      = { id = local.vnet_id }
      allowVirtualNetworkAccess = true
      allowForwardedTraffic     = false
      allowGatewayTransit       = each.value.use_remote_gateway
      useRemoteGateways         = false
    }
  }
}

resource "azapi_resource" "dns_zone_link" {
  for_each  = var.dns_zone_links
  type      = "Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01"
  name      = "${var.name}-${each.key}"
  parent_id = each.value
  location  = "global"
  tags      = var.tags
  body = {
    properties = {
      # Executors come and go; nothing has to find them by name.
      registrationEnabled = false
      virtualNetwork      = { id = local.vnet_id }
    }
  }
}
