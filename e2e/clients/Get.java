import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Usage: java Get.java URL [BEARER [HTTP_1_1|HTTP_2]]: prints the status and protocol, then the body. */
public class Get {
    public static void main(String[] args) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(args[0]));
        if (args.length > 1) {
            request.header("Authorization", "Bearer " + args[1]);
        }
        HttpClient.Builder client = HttpClient.newBuilder();
        if (args.length > 2) {
            client.version(HttpClient.Version.valueOf(args[2]));
        }
        HttpResponse<String> response = client.build().send(request.build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(response.statusCode() + " " + response.version());
        System.out.println(response.body());
    }
}
