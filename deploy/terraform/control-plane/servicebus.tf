resource "azurerm_servicebus_namespace" "this" {
  # checkov:skip=CKV_AZURE_199: Premium only, and a message says no more than "pool P has work".
  # checkov:skip=CKV_AZURE_201: Premium only, and a message says no more than "pool P has work".
  # checkov:skip=CKV_AZURE_202: the namespace calls nobody, so it needs no identity.
  # checkov:skip=CKV_AZURE_204: Premium only; who may use it is decided by roles, and there is no key.
  count               = var.service_bus == null ? 0 : 1
  name                = var.name
  location            = var.location
  resource_group_name = var.resource_group_name
  sku                 = "Standard" # Basic has no topics
  minimum_tls_version = "1.2"
  local_auth_enabled  = false # identities only, so there is no key to lose
  tags                = var.tags
}

module "service_bus" {
  source = "../service-bus"
  count  = var.service_bus == null ? 0 : 1

  namespace_id = azurerm_servicebus_namespace.this[0].id
  topic        = var.service_bus.topic
  pools        = var.service_bus.pools
  principals   = { control-plane = azurerm_user_assigned_identity.this.principal_id }
}
