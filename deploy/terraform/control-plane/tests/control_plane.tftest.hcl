# `terraform test` asks no subscription: every provider is a mock.

mock_provider "azurerm" {
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/s/resourceGroups/mayfly/providers/Microsoft.ManagedIdentity/userAssignedIdentities/mayfly"
      principal_id = "00000000-0000-0000-0000-0000000000cc"
    }
  }
  mock_resource "azurerm_key_vault" {
    defaults = {
      id        = "/subscriptions/s/resourceGroups/mayfly/providers/Microsoft.KeyVault/vaults/mayfly-test"
      vault_uri = "https://mayfly-test.vault.azure.net/"
    }
  }
  mock_resource "azurerm_servicebus_namespace" {
    defaults = { id = "/subscriptions/s/resourceGroups/mayfly/providers/Microsoft.ServiceBus/namespaces/mayfly-test" }
  }
}

variables {
  name                = "mayfly-test"
  location            = "norwayeast"
  resource_group_name = "mayfly"
  image               = "example.azurecr.io/mayfly:0.1.0"
  database_password   = "Aaaaaaaaaaaaaaaaaaaaaaa1"
  mayfly_toml         = <<-TOML
    [server]
    host = "0.0.0.0"
    [github]
    key_vault_key = "https://mayfly-test.vault.azure.net/keys/github-app/0123456789abcdef0123456789abcdef"
  TOML
}

run "the_identity_may_sign_with_the_key_and_do_nothing_else_with_it" {
  variables {
    start = true
  }
  assert {
    condition     = !contains([for secret in azurerm_container_app.this[0].secret : secret.name], "app-key")
    error_message = "the key leaves the vault"
  }
  assert {
    condition     = azurerm_role_definition.sign[0].permissions[0].data_actions == tolist(["Microsoft.KeyVault/vaults/keys/sign/action"])
    error_message = "more than signing"
  }
  assert {
    condition     = azurerm_role_assignment.sign[0].principal_id == azurerm_user_assigned_identity.this.principal_id && azurerm_role_assignment.sign[0].scope == azurerm_key_vault.this.id
    error_message = "somebody else, or elsewhere"
  }
  assert {
    condition     = azurerm_key_vault.this.rbac_authorization_enabled && azurerm_key_vault.this.purge_protection_enabled && !azurerm_key_vault.this.public_network_access_enabled
    error_message = "another way into the vault"
  }
}

run "a_role_that_is_there_is_used" {
  variables {
    sign_role_definition_id = "/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/r"
  }
  assert {
    condition     = length(azurerm_role_definition.sign) == 0 && azurerm_role_assignment.sign[0].role_definition_id == var.sign_role_definition_id
    error_message = "a second role"
  }
}

run "nothing_runs_before_the_key_is_there" {
  assert {
    condition     = length(azurerm_container_app.this) == 0 && output.url == null
    error_message = "it would not start without its secrets"
  }
}

run "the_control_plane_finds_its_secrets_as_files" {
  variables {
    start       = true
    app_key     = "file"
    mayfly_toml = "[server]\nhost = \"0.0.0.0\"\n[github]\nprivate_key_file = \"/etc/mayfly/app-key\""
  }
  assert {
    condition     = toset([for secret in azurerm_container_app.this[0].secret : secret.key_vault_secret_id if secret.name != "mayfly-toml"]) == toset(["https://mayfly-test.vault.azure.net/secrets/app-key", "https://mayfly-test.vault.azure.net/secrets/store-url", "https://mayfly-test.vault.azure.net/secrets/webhook-secret"])
    error_message = "other secrets"
  }
  assert {
    condition     = length(azurerm_role_definition.sign) + length(azurerm_role_assignment.sign) == 0
    error_message = "a right nobody has a use for"
  }
  assert {
    condition     = [for variable in azurerm_container_app.this[0].template[0].container[0].env : variable.name] == ["AZURE_CLIENT_ID"]
    error_message = "a secret in the environment"
  }
  assert {
    condition     = azurerm_container_app.this[0].template[0].container[0].args == tolist(["serve", "--config", "/etc/mayfly/mayfly-toml"])
    error_message = "it does not read its settings"
  }
}

run "the_database_is_reached_from_the_network_alone" {
  assert {
    condition     = !azurerm_postgresql_flexible_server.this.public_network_access_enabled && azurerm_postgresql_flexible_server.this.delegated_subnet_id == azurerm_subnet.this["database"].id
    error_message = "a database in the internet"
  }
  assert {
    condition     = azurerm_postgresql_flexible_server.this.administrator_password_wo == null
    error_message = "the password is in the state"
  }
}

run "the_database_and_the_vault_are_not_deleted_by_mistake" {
  assert {
    condition     = toset([for lock in azurerm_management_lock.this : lock.scope]) == toset([azurerm_postgresql_flexible_server.this.id, azurerm_key_vault.this.id]) && alltrue([for lock in azurerm_management_lock.this : lock.lock_level == "CanNotDelete"])
    error_message = "no lock"
  }
}

run "the_subnets_do_not_overlap_and_are_delegated" {
  assert {
    condition     = { for name, subnet in azurerm_subnet.this : name => subnet.address_prefixes[0] } == { apps = "10.61.0.0/27", database = "10.61.0.32/28", endpoints = "10.61.0.48/28" }
    error_message = "other ranges"
  }
  assert {
    condition     = azurerm_subnet.this["database"].delegation[0].service_delegation[0].name == "Microsoft.DBforPostgreSQL/flexibleServers"
    error_message = "not delegated"
  }
}

run "with_pull_nobody_in_the_internet_gets_in" {
  variables {
    public = false
  }
  assert {
    condition     = !contains([for rule in azurerm_network_security_group.this["apps"].security_rule : rule.source_address_prefix if rule.access == "Allow"], "Internet") && azurerm_container_app_environment.this.internal_load_balancer_enabled
    error_message = "the internet gets in"
  }
}

run "service_bus_knows_identities_and_no_keys" {
  variables {
    service_bus = { pools = ["linux", "gpu"] }
  }
  assert {
    condition     = !azurerm_servicebus_namespace.this[0].local_auth_enabled && output.bus_url == "sb://mayfly-test.servicebus.windows.net/mayfly"
    error_message = "a key, or another url"
  }
}

run "networks_and_zones_that_are_there_are_used" {
  variables {
    network = {
      subnet_ids = {
        apps      = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/apps"
        database  = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/database"
        endpoints = "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub/subnets/endpoints"
      }
    }
    private_dns_zone_ids = {
      vault    = "/subscriptions/d/resourceGroups/dns/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net"
      postgres = "/subscriptions/d/resourceGroups/dns/providers/Microsoft.Network/privateDnsZones/privatelink.postgres.database.azure.com"
    }
  }
  assert {
    condition     = length(azurerm_virtual_network.this) + length(azurerm_subnet.this) + length(azurerm_network_security_group.this) + length(azurerm_private_dns_zone.this) == 0
    error_message = "something is made in a network that is not ours"
  }
  assert {
    condition     = azurerm_private_endpoint.vault.subnet_id == var.network.subnet_ids.endpoints && azurerm_private_endpoint.vault.private_dns_zone_group[0].private_dns_zone_ids == tolist([var.private_dns_zone_ids.vault])
    error_message = "another subnet or zone"
  }
}

run "a_key_that_is_nowhere" {
  command = plan
  variables {
    app_key = "state"
  }
  expect_failures = [var.app_key]
}

run "settings_that_look_for_the_key_elsewhere" {
  command = plan
  variables {
    start   = true
    app_key = "file"
  }
  expect_failures = [var.app_key]
}

run "a_name_that_no_vault_can_have" {
  command = plan
  variables {
    name = "Mayfly"
  }
  expect_failures = [var.name]
}

run "an_image_without_a_registry" {
  command = plan
  variables {
    image = "mayfly"
  }
  expect_failures = [var.image]
}

run "settings_that_listen_on_loopback" {
  command = plan
  variables {
    mayfly_toml = "[github]\napp_id = 1"
  }
  expect_failures = [var.mayfly_toml]
}

run "settings_with_another_port" {
  command = plan
  variables {
    mayfly_toml = "[server]\nhost = \"0.0.0.0\"\nport = 80"
  }
  expect_failures = [var.mayfly_toml]
}

run "settings_with_the_apps_key" {
  command = plan
  variables {
    mayfly_toml = "[server]\nhost = \"0.0.0.0\"\n# -----BEGIN RSA PRIVATE KEY-----"
  }
  expect_failures = [var.mayfly_toml]
}

run "settings_with_a_password" {
  command = plan
  variables {
    mayfly_toml = "[server]\nhost = \"0.0.0.0\"\n[store]\nurl = \"postgresql://mayfly:hunter2@db/mayfly\""
  }
  expect_failures = [var.mayfly_toml]
}

run "no_control_plane_at_all" {
  command = plan
  variables {
    replicas = 0
  }
  expect_failures = [var.replicas]
}

run "a_network_that_is_too_small" {
  command = plan
  variables {
    network = { address_space = "10.61.0.0/27" }
  }
  expect_failures = [var.network]
}

run "a_burstable_database_in_two_zones" {
  command = plan
  variables {
    database = { zone_redundant = true }
  }
  expect_failures = [var.database]
}

run "a_short_password" {
  command = plan
  variables {
    database_password = "Hunter2"
  }
  expect_failures = [var.database_password]
}

run "logs_for_a_week" {
  command = plan
  variables {
    log_retention_days = 7
  }
  expect_failures = [var.log_retention_days]
}
