terraform {
  required_version = ">= 1.9"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.55, < 5.0" # what its schema was tried with
    }
    # For what azurerm has no argument for: the lifecycle of an identity in a job, and a peering or a
    # DNS link whose parent is in another subscription.
    azapi = {
      source  = "azure/azapi"
      version = ">= 2.4, < 3.0"
    }
  }
}
