# What is wrong is refused before anything is made, each by the variable that has it.

mock_provider "azapi" {}
mock_provider "azurerm" {}

variables {
  location            = "norwayeast"
  resource_group_name = "runners"
  control_plane       = { url = "https://mayfly.example.com" }
  pools               = { linux = { image = "example.azurecr.io/mayfly-executor:0.1.0" } }
}

run "a_name_with_a_capital_letter" {
  command = plan
  variables {
    name = "Mayfly"
  }
  expect_failures = [var.name]
}

run "a_control_plane_without_tls" {
  command = plan
  variables {
    control_plane = { url = "http://mayfly.example.com" }
  }
  expect_failures = [var.control_plane]
}

run "a_principal_by_its_name" {
  command = plan
  variables {
    control_plane = { url = "https://mayfly.example.com", principals = { mayfly = "mayfly" } }
  }
  expect_failures = [var.control_plane]
}

run "no_pool" {
  command = plan
  variables {
    pools = {}
  }
  expect_failures = [var.pools]
}

run "a_pool_that_is_no_name_of_a_job" {
  command = plan
  variables {
    pools = { Linux_Large = { image = "example.azurecr.io/mayfly-executor:0.1.0" } }
  }
  expect_failures = [var.pools]
}

run "names_that_are_too_long_together" {
  command = plan
  variables {
    name  = "mayfly-of-the-team-a"
    pools = { linux-large-large = { image = "example.azurecr.io/mayfly-executor:0.1.0" } }
  }
  expect_failures = [var.pools]
}

run "more_cores_than_consumption_gives" {
  command = plan
  variables {
    pools = { linux = { image = "example.azurecr.io/mayfly-executor:0.1.0", cpu = 8 } }
  }
  expect_failures = [var.pools]
}

run "other_memory_than_consumption_gives" {
  command = plan
  variables {
    pools = { linux = { image = "example.azurecr.io/mayfly-executor:0.1.0", cpu = 2, memory_gib = 16 } }
  }
  expect_failures = [var.pools]
}

run "a_profile_that_is_not_there" {
  command = plan
  variables {
    pools = { linux = { image = "example.azurecr.io/mayfly-executor:0.1.0", workload_profile = "big" } }
  }
  expect_failures = [var.pools]
}

run "a_job_that_may_take_days" {
  command = plan
  variables {
    pools = { linux = { image = "example.azurecr.io/mayfly-executor:0.1.0", longest_seconds = 200000 } }
  }
  expect_failures = [var.pools]
}

run "a_token_in_the_environment" {
  command = plan
  variables {
    pools = { linux = { image = "example.azurecr.io/mayfly-executor:0.1.0", environment = { MAYFLY_TOKEN = "secret" } } }
  }
  expect_failures = [var.pools]
}

run "an_image_without_a_tag" {
  command = plan
  variables {
    pools = { linux = { image = "example.azurecr.io/mayfly-executor" } }
  }
  expect_failures = [var.pools]
}

run "consumption_twice" {
  command = plan
  variables {
    workload_profiles = { Consumption = { type = "Consumption" } }
  }
  expect_failures = [var.workload_profiles]
}

run "a_registry_that_is_none" {
  command = plan
  variables {
    registry = { server = "ghcr.io", acr = { id = "ghcr.io" } }
  }
  expect_failures = [var.registry]
}

run "a_subnet_that_is_too_small" {
  command = plan
  variables {
    network = { address_space = "10.60.0.0/24", subnet_prefix = "10.60.0.0/28" }
  }
  expect_failures = [var.network]
}

run "a_range_that_is_reserved" {
  command = plan
  variables {
    network = { address_space = "172.30.4.0/24" }
  }
  expect_failures = [azurerm_container_app_environment.executors]
}

run "a_range_within_a_reserved_one_that_is_no_whole_octet" {
  command = plan
  variables {
    network = { address_space = "100.100.96.0/20" }
  }
  expect_failures = [azurerm_container_app_environment.executors]
}

run "a_network_without_a_range_for_its_subnet" {
  command = plan
  variables {
    network = { vnet = { id = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub" } }
  }
  expect_failures = [var.network]
}

run "a_network_and_a_subnet" {
  command = plan
  variables {
    network = {
      vnet          = { id = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub" }
      subnet_prefix = "10.1.2.0/27"
      subnet        = { id = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/runners" }
    }
  }
  expect_failures = [var.network]
}

run "a_fixed_address_in_a_subnet_that_is_not_ours" {
  command = plan
  variables {
    network = {
      subnet        = { id = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/runners" }
      fixed_address = true
    }
  }
  expect_failures = [var.network]
}

run "a_peering_with_an_overlap" {
  command = plan
  variables {
    peerings = {
      payments = {
        vnet_id       = "/subscriptions/t/resourceGroups/team/providers/Microsoft.Network/virtualNetworks/payments"
        address_space = ["10.80.0.0/16", "10.60.0.128/25"]
      }
    }
  }
  expect_failures = [azapi_resource.peering["payments"]]
}

run "a_peering_by_name" {
  command = plan
  variables {
    peerings = { payments = { vnet_id = "payments" } }
  }
  expect_failures = [var.peerings]
}

run "two_gateways" {
  command = plan
  variables {
    peerings = {
      one = { vnet_id = "/subscriptions/t/resourceGroups/team/providers/Microsoft.Network/virtualNetworks/one", use_remote_gateway = true }
      two = { vnet_id = "/subscriptions/t/resourceGroups/team/providers/Microsoft.Network/virtualNetworks/two", use_remote_gateway = true }
    }
  }
  expect_failures = [var.peerings]
}

run "a_zone_linked_twice" {
  command = plan
  variables {
    dns_zone_links = {
      one = "/subscriptions/t/resourceGroups/dns/providers/Microsoft.Network/privateDnsZones/internal.example.com"
      two = "/subscriptions/t/resourcegroups/dns/providers/Microsoft.Network/privateDnsZones/internal.example.com"
    }
  }
  expect_failures = [var.dns_zone_links]
}

run "a_zone_by_name" {
  command = plan
  variables {
    dns_zone_links = { one = "internal.example.com" }
  }
  expect_failures = [var.dns_zone_links]
}

run "logs_for_a_week" {
  command = plan
  variables {
    log_analytics = { retention_days = 7 }
  }
  expect_failures = [var.log_analytics]
}
