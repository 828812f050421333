mock_provider "azapi" {}

mock_provider "azurerm" {
  mock_resource "azurerm_virtual_network" {
    defaults = { id = "/subscriptions/s/resourceGroups/runners/providers/Microsoft.Network/virtualNetworks/made" }
  }
}

variables {
  location            = "norwayeast"
  resource_group_name = "runners"
  control_plane       = { url = "https://mayfly.example.com" }
  pools               = { linux = { image = "example.azurecr.io/mayfly-executor:0.1.0" } }
}

run "a_subnet_is_made_and_delegated" {
  assert {
    condition     = azurerm_subnet.executors[0].address_prefixes == tolist(["10.60.0.0/26"])
    error_message = "not the first /26"
  }
  assert {
    condition     = azurerm_subnet.executors[0].delegation[0].service_delegation[0].name == "Microsoft.App/environments"
    error_message = "not delegated"
  }
  assert {
    condition     = length(azurerm_nat_gateway.out) == 0 && output.outbound_address == null
    error_message = "a NAT gateway nobody asked for, and pays for"
  }
}

run "nobody_calls_an_executor" {
  assert {
    condition     = one([for rule in azurerm_network_security_group.executors[0].security_rule : rule if rule.access == "Deny"]).source_address_prefix == "*"
    error_message = "no last rule that denies"
  }
  assert {
    condition     = toset([for rule in azurerm_network_security_group.executors[0].security_rule : rule.source_address_prefix if rule.access == "Allow"]) == toset(["10.60.0.0/26", "AzureLoadBalancer"])
    error_message = "somebody else gets in"
  }
}

run "a_nat_gateway_gives_one_address" {
  variables {
    network = { fixed_address = true }
  }
  assert {
    condition     = azurerm_subnet_nat_gateway_association.out[0].subnet_id == azurerm_subnet.executors[0].id
    error_message = "the gateway is not the subnet's"
  }
  assert {
    condition     = output.outbound_address == azurerm_public_ip.out[0].ip_address
    error_message = "another address"
  }
}

run "a_subnet_is_made_in_a_network_that_is_there" {
  variables {
    network = {
      vnet          = { id = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub" }
      subnet_prefix = "10.1.2.0/27"
    }
  }
  assert {
    condition     = length(azurerm_virtual_network.executors) == 0
    error_message = "a second network"
  }
  assert {
    condition     = azurerm_subnet.executors[0].resource_group_name == "hub" && azurerm_subnet.executors[0].virtual_network_name == "hub" && azurerm_subnet.executors[0].address_prefixes == tolist(["10.1.2.0/27"])
    error_message = "not in the network that was given"
  }
}

run "a_subnet_that_is_there_is_used_as_it_is" {
  variables {
    network = { subnet = { id = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/runners" } }
  }
  assert {
    condition     = azurerm_container_app_environment.executors.infrastructure_subnet_id == var.network.subnet.id
    error_message = "another subnet"
  }
  assert {
    condition     = length(azurerm_virtual_network.executors) + length(azurerm_subnet.executors) + length(azurerm_network_security_group.executors) == 0
    error_message = "something is made in a network that is not ours"
  }
  assert {
    condition     = output.vnet_id == "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub"
    error_message = "another network"
  }
}

run "a_peering_has_two_ends_and_a_zone_a_link" {
  variables {
    peerings = {
      payments = {
        vnet_id            = "/subscriptions/t/resourceGroups/team/providers/Microsoft.Network/virtualNetworks/payments"
        address_space      = ["10.80.0.0/16"]
        use_remote_gateway = true
      }
      theirs = {
        vnet_id        = "/subscriptions/u/resourceGroups/team/providers/Microsoft.Network/virtualNetworks/theirs"
        return_peering = false
      }
    }
    dns_zone_links = { cluster = "/subscriptions/t/resourceGroups/dns/providers/Microsoft.Network/privateDnsZones/privatelink.norwayeast.azmk8s.io" }
  }
  assert {
    condition = azapi_resource.peering["payments"].parent_id == azurerm_virtual_network.executors[0].id && azapi_resource.peering["payments"].body == {
      properties = {
        remoteVirtualNetwork      = { id = "/subscriptions/t/resourceGroups/team/providers/Microsoft.Network/virtualNetworks/payments" }
        allowVirtualNetworkAccess = true
        allowForwardedTraffic     = false
        allowGatewayTransit       = false
        useRemoteGateways         = true
      }
    }
    error_message = "this end is another one"
  }
  assert {
    condition = azapi_resource.return_peering["payments"].parent_id == var.peerings["payments"].vnet_id && azapi_resource.return_peering["payments"].body == {
      properties = {
        remoteVirtualNetwork      = { id = azurerm_virtual_network.executors[0].id }
        allowVirtualNetworkAccess = true
        allowForwardedTraffic     = false
        allowGatewayTransit       = true
        useRemoteGateways         = false
      }
    }
    error_message = "the other end is another one"
  }
  assert {
    condition     = keys(azapi_resource.return_peering) == ["payments"]
    error_message = "an end is made in a network whose owner makes it"
  }
  assert {
    condition = azapi_resource.dns_zone_link["cluster"].parent_id == var.dns_zone_links["cluster"] && azapi_resource.dns_zone_link["cluster"].body == {
      properties = {
        registrationEnabled = false
        virtualNetwork      = { id = azurerm_virtual_network.executors[0].id }
      }
    }
    error_message = "the zone is not linked to the executors' network"
  }
}
