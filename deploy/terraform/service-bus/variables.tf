variable "namespace_id" {
  description = "The resource id of a Service Bus namespace, Standard or Premium."
  type        = string

  validation {
    condition     = can(regex("(?i)/providers/Microsoft.ServiceBus/namespaces/[^/]+$", var.namespace_id))
    error_message = "The namespace_id must be the resource id of a Service Bus namespace: /subscriptions/…/namespaces/NAME."
  }
}

variable "topic" {
  description = "What the control plane's `[bus] url` names."
  type        = string
  default     = "mayfly"
}

variable "pools" {
  description = "The pools of mayfly.toml; each gets a subscription of its name."
  type        = set(string)

  validation {
    condition     = alltrue([for pool in var.pools : can(regex("^[A-Za-z0-9]([A-Za-z0-9._-]{0,48}[A-Za-z0-9])?$", pool))])
    error_message = "A pool is the name of a subscription here: at most 50 letters, digits, '.', '-' and '_', with a letter or a digit at both ends."
  }
}

variable "principals" {
  description = "Name to the object id of an identity that may send to the topic and receive from it."
  type        = map(string)
  default     = {}
}
