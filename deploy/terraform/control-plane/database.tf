resource "azurerm_postgresql_flexible_server" "this" {
  # checkov:skip=CKV_AZURE_136: geo_backup is true unless the operator says otherwise.
  # checkov:skip=CKV2_AZURE_57: it is in a subnet of its own, which excludes a private endpoint.
  name                = var.name
  location            = var.location
  resource_group_name = var.resource_group_name
  sku_name            = var.database.sku
  storage_mb          = var.database.storage_mb
  version             = var.database.version

  administrator_login = "mayfly"
  # Written, and kept neither in the state nor in a plan.
  administrator_password_wo         = var.database_password
  administrator_password_wo_version = var.database.password_version

  public_network_access_enabled = false
  delegated_subnet_id           = local.subnet_ids["database"]
  private_dns_zone_id           = local.zone_ids["postgres"]
  backup_retention_days         = var.database.backup_days
  geo_redundant_backup_enabled  = var.database.geo_backup
  tags                          = var.tags

  dynamic "high_availability" {
    for_each = var.database.zone_redundant ? ["ZoneRedundant"] : []
    content {
      mode = high_availability.value
    }
  }

  depends_on = [azurerm_private_dns_zone_virtual_network_link.this]

  lifecycle {
    ignore_changes = [zone]
  }
}

resource "azurerm_postgresql_flexible_server_database" "mayfly" {
  name      = "mayfly"
  server_id = azurerm_postgresql_flexible_server.this.id
  charset   = "UTF8"
  collation = "en_US.utf8"
}

# The ledger and the key: neither goes with a mistaken destroy.
resource "azurerm_management_lock" "this" {
  for_each = var.locked ? {
    database = azurerm_postgresql_flexible_server.this.id
    vault    = azurerm_key_vault.this.id
  } : {}
  name       = "${var.name}-${each.key}"
  scope      = each.value
  lock_level = "CanNotDelete"
  notes      = "Mayfly's ledger and the key of its App: set locked = false before you delete them."
}
