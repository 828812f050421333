output "topic_id" {
  description = "The resource id of the topic."
  value       = azurerm_servicebus_topic.this.id
}
