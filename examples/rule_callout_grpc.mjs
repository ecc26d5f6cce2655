// A rule over gRPC in one file of JavaScript: whoever says "please" is put into the flow of the polite.
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [port = "9302", protos = "libs/common/proto"] = process.argv.slice(2);
const definition = loader.loadSync("pointsman/routing/v1/rule_callout.proto", { includeDirs: [protos], keepCase: true });
const { RuleCallout } = grpc.loadPackageDefinition(definition).pointsman.routing.v1;

function apply(call, answer) {
  const polite = /\bplease\b/i.test(call.request.last_user_text);
  answer(null, polite ? { changes: { fairness_id: "polite" } } : {});
}

const server = new grpc.Server();
server.addService(RuleCallout.service, { Apply: apply });
server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error, bound) => {
  if (error) throw error;
  console.log(`serving on ${bound}`);
});
