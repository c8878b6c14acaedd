import { defineConfig } from "vite";
import { offline } from "./build/offline.js";

const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default defineConfig({
  base: "./",
  plugins: [offline()],
  worker: { format: "es" },
  build: { target: "es2023", assetsInlineLimit: 0 },
  server: { headers },
  preview: { headers },
});
