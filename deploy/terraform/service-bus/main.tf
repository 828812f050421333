terraform {
  required_version = ">= 1.9"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.55, < 5.0" # what its schema was tried with
    }
  }
}

# What docs/how-to/use-azure-service-bus.md says there has to be; `mayfly bus declare` makes the same.

resource "azurerm_servicebus_topic" "this" {
  name                         = var.topic
  namespace_id                 = var.namespace_id
  default_message_ttl          = "P7D"
  requires_duplicate_detection = true
}

resource "azurerm_servicebus_subscription" "pool" {
  for_each            = var.pools
  name                = each.key
  topic_id            = azurerm_servicebus_topic.this.id
  lock_duration       = "PT30S"
  max_delivery_count  = 10
  default_message_ttl = "P7D"
}

# Service Bus makes the rule $Default, which lets everything in, and removes it with the first other
# one; so subscriptions are made before the control plane sends anything. `mayfly bus declare` looks.
resource "azurerm_servicebus_subscription_rule" "pool" {
  for_each        = var.pools
  name            = "subject"
  subscription_id = azurerm_servicebus_subscription.pool[each.key].id
  filter_type     = "CorrelationFilter"
  correlation_filter {
    label = each.key
  }
}

# On the topic alone, and nothing of the management plane.
resource "azurerm_role_assignment" "sender" {
  for_each             = var.principals
  scope                = azurerm_servicebus_topic.this.id
  role_definition_name = "Azure Service Bus Data Sender"
  principal_id         = each.value
  principal_type       = "ServicePrincipal"
}

resource "azurerm_role_assignment" "receiver" {
  for_each             = var.principals
  scope                = azurerm_servicebus_topic.this.id
  role_definition_name = "Azure Service Bus Data Receiver"
  principal_id         = each.value
  principal_type       = "ServicePrincipal"
}
