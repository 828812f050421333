data "azurerm_client_config" "current" {}

# Holds the App's key, the webhook's secret and the database's url. None of the three is here: the operator puts them there, so no
# state and no plan has ever seen them; docs/how-to/run-on-azure-container-apps.md says how.
resource "azurerm_key_vault" "this" {
  # checkov:skip=CKV_AZURE_189: false unless the operator is putting the key there.
  name                       = var.name
  location                   = var.location
  resource_group_name        = var.resource_group_name
  tenant_id                  = data.azurerm_client_config.current.tenant_id
  sku_name                   = "premium" # keys in hardware
  rbac_authorization_enabled = true
  # Whoever deletes the vault cannot end the App for good.
  purge_protection_enabled      = true
  soft_delete_retention_days    = 90
  public_network_access_enabled = length(var.vault_allowed_addresses) > 0
  tags                          = var.tags

  network_acls {
    default_action = "Deny"
    bypass         = "None"
    ip_rules       = var.vault_allowed_addresses
  }
}

resource "azurerm_private_endpoint" "vault" {
  name                = "${var.name}-vault"
  location            = var.location
  resource_group_name = var.resource_group_name
  subnet_id           = local.subnet_ids["endpoints"]
  tags                = var.tags

  private_service_connection {
    name                           = "vault"
    private_connection_resource_id = azurerm_key_vault.this.id
    subresource_names              = ["vault"]
    is_manual_connection           = false
  }
  private_dns_zone_group {
    name                 = "vault"
    private_dns_zone_ids = [local.zone_ids["vault"]]
  }
}

# Azure's own "Key Vault Crypto User" may also decrypt, wrap, update and back up.
resource "azurerm_role_definition" "sign" {
  count       = var.app_key == "sign" && var.sign_role_definition_id == null ? 1 : 0
  name        = "${var.name}: sign with a key"
  scope       = azurerm_key_vault.this.id
  description = "Sign with the keys of this vault, and nothing else: not read, export or change them."

  permissions {
    data_actions = ["Microsoft.KeyVault/vaults/keys/sign/action"]
  }
  assignable_scopes = [azurerm_key_vault.this.id]
}

resource "azurerm_role_assignment" "sign" {
  count              = var.app_key == "sign" ? 1 : 0
  scope              = azurerm_key_vault.this.id
  role_definition_id = var.sign_role_definition_id != null ? var.sign_role_definition_id : azurerm_role_definition.sign[0].role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.this.principal_id
  principal_type     = "ServicePrincipal"
}

# The secrets of this vault reach the container as files.
resource "azurerm_role_assignment" "secrets" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_user_assigned_identity.this.principal_id
  principal_type       = "ServicePrincipal"
}

# Every signature, with who asked for it.
resource "azurerm_monitor_diagnostic_setting" "vault" {
  name                       = "audit"
  target_resource_id         = azurerm_key_vault.this.id
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this.id

  enabled_log {
    category = "AuditEvent"
  }
}
