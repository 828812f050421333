locals {
  # What the operator puts into the vault, and finds as files of these names in /etc/mayfly.
  secrets = toset(concat(["webhook-secret", "store-url"], var.app_key == "file" ? ["app-key"] : []))
}

resource "azurerm_user_assigned_identity" "this" {
  name                = var.name
  location            = var.location
  resource_group_name = var.resource_group_name
  tags                = var.tags
}

resource "azurerm_role_assignment" "pull" {
  count                = var.registry == null ? 0 : 1
  scope                = var.registry.id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_user_assigned_identity.this.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_log_analytics_workspace" "this" {
  name                = var.name
  location            = var.location
  resource_group_name = var.resource_group_name
  sku                 = "PerGB2018"
  retention_in_days   = var.log_retention_days
  tags                = var.tags
}

resource "azurerm_container_app_environment" "this" {
  name                           = var.name
  location                       = var.location
  resource_group_name            = var.resource_group_name
  infrastructure_subnet_id       = local.subnet_ids["apps"]
  internal_load_balancer_enabled = !var.public
  logs_destination               = "log-analytics"
  log_analytics_workspace_id     = azurerm_log_analytics_workspace.this.id
  tags                           = var.tags

  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }

  depends_on = [azurerm_subnet_network_security_group_association.this]

  lifecycle {
    # Azure fills it in; without this each plan would make the environment anew.
    ignore_changes = [infrastructure_resource_group_name]
  }
}

resource "azurerm_container_app" "this" {
  count                        = var.start ? 1 : 0
  name                         = var.name
  resource_group_name          = var.resource_group_name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single"
  tags                         = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this.id]
  }

  dynamic "registry" {
    for_each = var.registry == null ? [] : [var.registry.server]
    content {
      server   = registry.value
      identity = azurerm_user_assigned_identity.this.id
    }
  }

  # No secret: a file that has to be beside the secrets.
  secret {
    name  = "mayfly-toml"
    value = var.mayfly_toml
  }

  # Without a version: a new one is read within half an hour, and then the app is restarted.
  dynamic "secret" {
    for_each = local.secrets
    content {
      name                = secret.value
      key_vault_secret_id = "${azurerm_key_vault.this.vault_uri}secrets/${secret.value}"
      identity            = azurerm_user_assigned_identity.this.id
    }
  }

  ingress {
    external_enabled           = true # outside the environment; `public` says whether outside the network
    target_port                = 8080
    allow_insecure_connections = false
    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas                     = var.replicas
    max_replicas                     = var.replicas
    termination_grace_period_seconds = 60

    container {
      name    = "mayfly"
      image   = var.image
      command = ["mayfly"]
      args    = ["serve", "--config", "/etc/mayfly/mayfly-toml"]
      cpu     = 0.5
      memory  = "1Gi"

      env {
        name  = "AZURE_CLIENT_ID"
        value = azurerm_user_assigned_identity.this.client_id
      }
      volume_mounts {
        name = "settings"
        path = "/etc/mayfly"
      }
      # /readyz wants a token, and a database that is away is no reason to restart.
      liveness_probe {
        transport = "HTTP"
        path      = "/healthz"
        port      = 8080
      }
      startup_probe {
        transport               = "HTTP"
        path                    = "/healthz"
        port                    = 8080
        failure_count_threshold = 30
        interval_seconds        = 2
      }
    }

    volume {
      name         = "settings"
      storage_type = "Secret"
    }
  }

  depends_on = [
    azurerm_private_endpoint.vault,
    azurerm_role_assignment.pull,
    azurerm_role_assignment.secrets,
    azurerm_role_assignment.sign,
    azurerm_postgresql_flexible_server_database.mayfly,
  ]
}
